"""The HTTP face of the service. No torch in this process: what it needs from torch it asks of `abcore.describe`."""
