"""One suite for each cloud port, run over the fakes and over the local cloud."""
