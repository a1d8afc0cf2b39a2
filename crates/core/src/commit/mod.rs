//! Commits: actions become the next snapshot, validated against what others did meanwhile, and published once.
