"""General, the lane of ua-vp for work that is not code."""
