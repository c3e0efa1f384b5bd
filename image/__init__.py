"""What the image's build needs beside the Dockerfile."""
