"""What C2's services, jobs and centers say to each other, and who may say it."""
