"""CODIE, the lane of ua-vp that mends code in a clone and hands out a patch."""
