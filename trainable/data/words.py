"""The emotion words, in English and Korean, that prompts are made of."""

from typing import NamedTuple


class Words(NamedTuple):
    """How one class is said."""

    adjective_en: str
    """Follows "looks": "surprised"."""
    noun_en: str
    """Follows "a face showing": "surprise"."""
    noun_ko: str
    """"놀람"."""
    adjective_ko: str
    """Precedes "얼굴": "놀란"."""


class Stem(NamedTuple):
    """How a basic emotion stands first in the name of a compound one."""

    adverb_en: str
    noun_ko_and: str
    adjective_ko_and: str


BASIC = {
    "angry": Words("angry", "anger", "분노", "화난"),
    "disgust": Words("disgusted", "disgust", "역겨움", "역겨워하는"),
    "fear": Words("fearful", "fear", "공포", "두려워하는"),
    "happy": Words("happy", "happiness", "행복", "행복한"),
    "sad": Words("sad", "sadness", "슬픔", "슬픈"),
    "surprise": Words("surprised", "surprise", "놀람", "놀란"),
    "neutral": Words("neutral", "no emotion", "중립", "무표정한"),
}

CONTEMPT = Words("contemptuous", "contempt", "경멸", "경멸하는")

STEMS = {
    "angry": Stem("angrily", "분노와", "화나고"),
    "disgust": Stem("disgustedly", "역겨움과", "역겨워하고"),
    "fear": Stem("fearfully", "공포와", "두려워하고"),
    "happy": Stem("happily", "행복과", "행복하고"),
    "sad": Stem("sadly", "슬픔과", "슬프고"),
}


def compound_words(first: str, second: str) -> Words:
    """Words of a compound made of two basic classes: "happily surprised", "happiness and surprise"."""
    stem, one, two = STEMS[first], BASIC[first], BASIC[second]
    return Words(
        f"{stem.adverb_en} {two.adjective_en}",
        f"{one.noun_en} and {two.noun_en}",
        f"{stem.noun_ko_and} {two.noun_ko}",
        f"{stem.adjective_ko_and} {two.adjective_ko}",
    )


COMPOUND_PARTS = {
    "happily_surprised": ("happy", "surprise"),
    "happily_disgusted": ("happy", "disgust"),
    "sadly_fearful": ("sad", "fear"),
    "sadly_angry": ("sad", "angry"),
    "sadly_surprised": ("sad", "surprise"),
    "sadly_disgusted": ("sad", "disgust"),
    "fearfully_angry": ("fear", "angry"),
    "fearfully_surprised": ("fear", "surprise"),
    "fearfully_disgusted": ("fear", "disgust"),
    "angrily_surprised": ("angry", "surprise"),
    "angrily_disgusted": ("angry", "disgust"),
    "disgustedly_surprised": ("disgust", "surprise"),
}
"""The 12 compound emotions whose names say their two basic ones (Du, Tao and Martinez 2014, Table 1)."""

COMPOUND = {name: compound_words(*parts) for name, parts in COMPOUND_PARTS.items()} | {
    "appalled": Words("appalled", "dismay", "경악", "경악한"),
    "hatred": Words("hateful", "hatred", "증오", "증오하는"),
    "awed": Words("awed", "awe", "경외감", "경외하는"),
}
"""The 15 compound emotions; the last three are the paper's own words for a mixture."""

KOTE = {
    "불평/불만": Words("dissatisfied", "complaint", "불평, 불만", "불평하는"),
    "환영/호의": Words("welcoming", "welcome and goodwill", "환영, 호의", "환영하는"),
    "감동/감탄": Words("moved", "being moved", "감동, 감탄", "감동한"),
    "지긋지긋": Words("fed up", "weariness of it all", "지긋지긋함", "지긋지긋해하는"),
    "고마움": Words("grateful", "gratitude", "고마움", "고마워하는"),
    "슬픔": Words("sad", "sadness", "슬픔", "슬픈"),
    "화남/분노": Words("angry", "anger", "화남, 분노", "화난"),
    "존경": Words("respectful", "respect", "존경", "존경하는"),
    "기대감": Words("expectant", "anticipation", "기대감", "기대하는"),
    "우쭐댐/무시함": Words("condescending", "condescension", "우쭐댐, 무시함", "우쭐대는"),
    "안타까움/실망": Words("disappointed", "disappointment", "안타까움, 실망", "실망한"),
    "비장함": Words("resolute", "grim resolve", "비장함", "비장한"),
    "의심/불신": Words("distrustful", "distrust", "의심, 불신", "의심하는"),
    "뿌듯함": Words("proud", "pride", "뿌듯함", "뿌듯한"),
    "편안/쾌적": Words("comfortable", "comfort", "편안함, 쾌적함", "편안한"),
    "신기함/관심": Words("interested", "interest", "신기함, 관심", "신기해하는"),
    "아껴주는": Words("caring", "affection", "아껴 주는 마음", "아껴 주는"),
    "부끄러움": Words("ashamed", "shame", "부끄러움", "부끄러워하는"),
    "공포/무서움": Words("fearful", "fear", "공포, 무서움", "무서워하는"),
    "절망": Words("hopeless", "despair", "절망", "절망한"),
    "한심함": Words("scornful", "scorn", "한심함", "한심해하는"),
    "역겨움/징그러움": Words("disgusted", "disgust", "역겨움, 징그러움", "역겨워하는"),
    "짜증": Words("irritated", "irritation", "짜증", "짜증 난"),
    "어이없음": Words("dumbfounded", "disbelief", "어이없음", "어이없어하는"),
    "없음": Words("emotionless", "no emotion", "감정 없음", "감정 없는"),
    "패배/자기혐오": Words("self-loathing", "defeat and self-hatred", "패배감, 자기혐오", "자기를 혐오하는"),
    "귀찮음": Words("bothered", "sloth", "귀찮음", "귀찮아하는"),
    "힘듦/지침": Words("exhausted", "exhaustion", "힘듦, 지침", "지친"),
    "즐거움/신남": Words("excited", "fun and excitement", "즐거움, 신남", "신난"),
    "깨달음": Words("enlightened", "realisation", "깨달음", "깨달은"),
    "죄책감": Words("guilty", "guilt", "죄책감", "죄책감을 느끼는"),
    "증오/혐오": Words("hateful", "hatred", "증오, 혐오", "증오하는"),
    "흐뭇함(귀여움/예쁨)": Words("charmed", "delight in something lovely", "흐뭇함, 귀여움, 예쁨", "흐뭇한"),
    "당황/난처": Words("embarrassed", "embarrassment", "당황, 난처함", "당황한"),
    "경악": Words("shocked", "shock", "경악", "경악한"),
    "부담/안_내킴": Words("reluctant", "reluctance", "부담, 안 내킴", "부담스러워하는"),
    "서러움": Words("sorrowful", "sorrow", "서러움", "서러워하는"),
    "재미없음": Words("bored", "boredom", "재미없음", "재미없어하는"),
    "불쌍함/연민": Words("compassionate", "compassion", "불쌍함, 연민", "연민을 느끼는"),
    "놀람": Words("surprised", "surprise", "놀람", "놀란"),
    "행복": Words("happy", "happiness", "행복", "행복한"),
    "불안/걱정": Words("anxious", "anxiety", "불안, 걱정", "불안한"),
    "기쁨": Words("joyful", "joy", "기쁨", "기쁜"),
    "안심/신뢰": Words("relieved", "relief and trust", "안심, 신뢰", "안심한"),
}
"""The 44 labels of KOTE in the order of the data set (Jeon, Lee and Kim 2022, arXiv 2205.05300)."""

ALIASES = {
    "anger": "angry",
    "분노": "angry",
    "disgusted": "disgust",
    "역겨움": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "공포": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "neutrality": "neutral",
    "no_emotion": "neutral",
    "중립": "neutral",
    "contemptuous": "contempt",
    "경멸": "contempt",
    "awe": "awed",
    "hateful": "hatred",
    "disgusted_surprise": "disgustedly_surprised",
} | {name.replace("/", "_"): name for name in KOTE if "/" in name}
"""Other spellings of a class's name, as data sets, people and names of folders write them."""
