"""Where a trial runs under Ray Tune: the only place in this package that knows Ray."""
