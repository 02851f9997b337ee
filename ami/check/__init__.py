"""`make image-check`: run the provisioners for real, in a Debian made for it, and start the image that comes of them.

Everything happens in namespaces of its own, and ends with them.
"""
