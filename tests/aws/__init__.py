"""AWS as the tests have it: moto, mended where it differs from what the farm relies on."""
