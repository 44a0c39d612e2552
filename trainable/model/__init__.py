"""The dual encoder in pure torch: towers, heads, weight initialisation and losses."""
