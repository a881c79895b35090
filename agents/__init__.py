"""Who chooses the actions: random, scripted and trained players, and the recorder of their play."""
