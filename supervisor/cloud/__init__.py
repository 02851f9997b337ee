"""The clouds: `ports` says what the farm needs of one; `local` and `aws` give it."""
