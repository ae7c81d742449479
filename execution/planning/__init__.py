"""What comes next, and what a resume will do. Pure: no clock, no disk."""
