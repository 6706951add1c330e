"""What can be wrong with a folder of knees, one kind of fault a file."""
