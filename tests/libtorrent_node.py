"""A node of the Mainline DHT by libtorrent, on loopback, for tests/tests/dht.rs.

Prints its port. Each line on standard input, "KEY SALT" in hex with "-" for no salt, is looked up by another libtorrent
node that knows the first; the answer is a line "SEQ VALUE" in hex, or "none". Ends with its input.
"""

import sys
import time

import libtorrent

SETTINGS = {
    "enable_dht": True,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "dht_bootstrap_nodes": "",
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_ignore_dark_internet": False,
    "dht_prefer_verified_node_ids": False,
    "dht_enforce_node_id": False,
    # Everybody here has one address, which would be banned for five questions a second.
    "dht_block_ratelimit": 10_000,
    "alert_mask": libtorrent.alert.category_t.all_categories,
}


def node(port):
    return libtorrent.session({**SETTINGS, "listen_interfaces": f"127.0.0.1:{port}"})


def look_up(session, key, salt):
    """Salts are text here: the bindings cannot tell others apart."""
    wanted = f"(key={key.hex()} salt={salt.decode()} "
    until = time.monotonic() + 10
    asked = 0
    while time.monotonic() < until:
        # It may not have met the other node yet.
        if time.monotonic() > asked + 1:
            session.dht_get_mutable_item(key, salt)
            asked = time.monotonic()
        session.wait_for_alert(100)
        for alert in session.pop_alerts():
            if not isinstance(alert, libtorrent.dht_mutable_item_alert) or wanted not in alert.message():
                continue
            try:
                item = alert.item
            except (RuntimeError, ValueError):  # It found none, or something that is no text to these bindings.
                continue
            value = item["value"] if isinstance(item, dict) else item
            # Some versions hand bytes out as a string.
            return alert.seq, value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return None


first = node(0)
while first.listen_port() == 0 or not first.is_dht_running():
    first.wait_for_alert(100)
    first.pop_alerts()
second = node(0)
second.add_dht_node(("127.0.0.1", first.listen_port()))
print(first.listen_port(), flush=True)
for line in sys.stdin:
    key, salt = line.split()
    found = look_up(second, bytes.fromhex(key), b"" if salt == "-" else bytes.fromhex(salt))
    if found is None:
        print("none", flush=True)
    else:
        seq, value = found
        print(seq, value.hex(), flush=True)
