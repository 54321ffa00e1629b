"""What leaves a study: architecture files and models that plain timm loads."""
