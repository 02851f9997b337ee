"""What uploaded files are: read without Blender, in a process of its own; zips taken apart."""
