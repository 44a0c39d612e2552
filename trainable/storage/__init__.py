"""Places that are no folders: buckets and everything else that has an address. Knows neither torch nor Ray."""
