"""What runs on an instance: the node agent and the Blender driver. Standard library and boto3 only."""
