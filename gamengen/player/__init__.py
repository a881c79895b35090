"""The browser player: any World, one real-time loop, one page.

protocol       the messages between server and page
source         what is played: a world, the real game, a recorded dataset
controllers    who chooses the actions while the human does not
start_image    a dropped picture as a start state
world_pool     worlds of several sizes; every client's game has one place in one of them
clip           what a client records: GIF, MP4, an episode
human_record   every episode of the real game into a dataset, while it is played
tape           all that is recorded of one client's game
keys           its newest keys, sampled at each tick
keyframes      its snapshots, where a rewind can go
outbox         the newest frame of a client, two in flight, the rest dropped and counted
session        the game of one client
engine         the tick loop
measures       frame times, latency, memory, as /metrics tells them
safety         who may connect, how much a client may say
server         HTTP and WebSocket; `player.html` is the page
serving        from the application to a port
"""
