"""Own data: videos, images, arrays and Minari datasets with their actions become what the recorder writes.

    spec -> sources (videos, images, arrays, minari_datasets) -> timeline -> logs -> actions, key_events -> steps
    -> frame_fit -> importer

`scripts/import_episodes.py` runs it, docs/own-game.md walks through it.
"""
