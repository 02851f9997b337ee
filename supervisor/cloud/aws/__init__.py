"""AWS as a cloud: EC2 instances, EBS volumes and snapshots, S3. Only `app.bootstrap` and `ami` come here."""
