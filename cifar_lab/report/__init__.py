"""The lab report anew: its systems trained, its figures drawn, its table written."""
