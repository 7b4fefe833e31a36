"""Images that machines without a disk start from: root, kernel and initramfs of one build, with one id."""
