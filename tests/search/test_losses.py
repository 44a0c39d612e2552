from search.losses import Losses


def test_a_loss_counts_only_where_the_trial_came_no_further_since_the_one_before() -> None:
    losses, counted = Losses(), []
    for saved in (0.0, 0.0, 0.5, 0.5, 2.0, 1.0, 2.0, 2.5):
        losses.saved = saved
        counted.append(losses.next_in_a_row)
        losses.lose()

    assert counted == [1, 2, 0, 1, 0, 1, 2, 0]
