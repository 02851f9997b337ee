"""The farm as people meet it: a real browser against a real server, with real nodes and Blender where a test renders."""
