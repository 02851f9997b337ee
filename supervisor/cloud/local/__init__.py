"""The cloud that is this machine: SeaweedFS for objects, folders for workspaces, processes for instances."""
