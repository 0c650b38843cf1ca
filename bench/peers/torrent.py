# libtorrent as a peer to measure beside us: TCP, unencrypted, one seeder.
#
#   torrent.py seed FILE TORRENT         writes TORRENT, prints its port; serves until its standard input ends
#   torrent.py get TORRENT PORT OUT      prints the milliseconds from the request to every piece checked, under OUT
import os
import sys
import time

import libtorrent as lt

session = lt.session({
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "allow_multiple_connections_per_ip": True,
})

if sys.argv[1] == "seed":
    file, path = sys.argv[2:4]
    storage = lt.file_storage()
    lt.add_files(storage, file)
    torrent = lt.create_torrent(storage, piece_size=1 << 20)
    lt.set_piece_hashes(torrent, os.path.dirname(file))
    with open(path, "wb") as out:
        out.write(lt.bencode(torrent.generate()))
    session.add_torrent({
        "ti": lt.torrent_info(path),
        "save_path": os.path.dirname(file),
        "flags": lt.torrent_flags.seed_mode,
    })
    while session.listen_port() == 0:
        time.sleep(0.05)
    print(session.listen_port(), flush=True)
    sys.stdin.read()
else:
    path, port, out = sys.argv[2:5]
    os.makedirs(out, exist_ok=True)
    started = time.monotonic()
    handle = session.add_torrent({"ti": lt.torrent_info(path), "save_path": out})
    handle.connect_peer(("127.0.0.1", int(port)))
    while not handle.status().is_seeding:
        time.sleep(0.01)
    print((time.monotonic() - started) * 1000, flush=True)
