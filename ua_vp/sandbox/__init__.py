"""What a mission's processes may touch, and the launcher that ends every one of them."""
