"""What each array of a file is: from its name, its siblings and its shape."""
