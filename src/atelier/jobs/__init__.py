"""Jobs: what they are, which comes next, and the SQL queue that keeps them."""
