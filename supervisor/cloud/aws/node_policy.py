"""What instances may do on AWS by their role, and who may take it: as data, in IAM's own form."""

from __future__ import annotations

from typing import Any

from nodeimage.protocol import AGENT_PREFIX, PROJECTS_PREFIX, RECEIVED_PREFIX

from .policy import VERSION, Part, Place, Statement, policy_of


def node_policy(place: Place) -> dict[str, Any]:
    """What an instance's role allows: read what it renders, deliver into what it was rented for, and nothing else."""
    projects, received = (f"arn:{place.partition}:s3:::{name}" for name in (place.identity.projects_bucket, place.identity.received_bucket))
    return policy_of(
        (
            Statement(
                sid="ReadProjects",
                part=Part.RUN,
                actions=("s3:GetObject",),
                resources=(f"{projects}/{PROJECTS_PREFIX}*", f"{projects}/{AGENT_PREFIX}*"),
            ),
            Statement(
                sid="Deliver",
                part=Part.RUN,
                actions=("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"),
                resources=(f"{received}/{RECEIVED_PREFIX}*",),
            ),
            # "IfExists": S3 answers 404 for what is not there only to those who may list, and then there is no prefix to compare.
            Statement(
                sid="ListReceived",
                part=Part.RUN,
                actions=("s3:ListBucket",),
                resources=(received,),
                conditions={"StringLikeIfExists": {"s3:prefix": f"{RECEIVED_PREFIX}*"}},
            ),
        )
    )


def trust_policy(place: Place) -> dict[str, Any]:
    """Who may take the nodes' role: EC2, for the instances."""
    return {
        "Version": VERSION,
        "Statement": [{"Effect": "Allow", "Principal": {"Service": place.ec2_service}, "Action": "sts:AssumeRole"}],
    }
