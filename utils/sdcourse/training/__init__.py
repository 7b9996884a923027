"""Train every part of the pocket model again, one file a stage: ``sdlab train STAGE``."""
