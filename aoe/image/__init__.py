"""Images of disks that are not raw: what their files are, and the process that serves one as a file."""
