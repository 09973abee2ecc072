"""What a job tells about itself when it has ended: `manifest` for programs that run it again."""
