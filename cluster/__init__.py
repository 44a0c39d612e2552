"""Files that describe clusters, and the check of them."""
