"""What is wrong with a data set, what it holds, and the same without its bad episodes."""
