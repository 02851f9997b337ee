"""What runs inside Blender: opens the .blend once and renders the frames it is told. Standard library and bpy only, Python 3.10 and on.

Blender's own Python does not have the `nodeimage` package: `driver.py` loads this folder there under the name `kiln_driver`.
"""
