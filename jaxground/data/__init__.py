"""Images, folders and sets as arrays."""
