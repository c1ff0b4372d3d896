#!/usr/bin/env python3
"""Crash-during-ingest driver (stdlib only).
  --mode kill9      SIGKILL the server's process group at a random moment, restart, verify
  --mode power      the data root is an ext4 on a loop device; FS_IOC_SHUTDOWN(NOLOGFLUSH) stops it as a power cut does
                    (nothing unsynced reaches the disk, as xfstests' `godown -f`), SIGKILL, umount, mount (journal replay), restart
  --mode enospc     the data root is a small tmpfs; send until the server refuses --refuse times in a row; verify (no kill)
  --mode sigterm    SIGTERM in the middle; server must drain (answer in-flight) and exit within --drain s; verify
--start 'cmd {port} {root}' : {port} is free, {root} is the data root prepared by --init 'cmd {root}' (run once per fresh root).
--storage '{root}/data' : walked; every DICOM file's SOPInstanceUID + pixel sha256 is taken from the bytes.
--index find|none : find = Study Root C-FIND at IMAGE level by (study, series).
--get : fetch every acknowledged image of the cycle by C-GET and compare pixels (else files are compared).
--sizes 4096,65536 : bytes of pixel data of the objects, taken in turn.
Figures: acked, lost_file (acked, no good file), corrupt (acked, file there, pixels differ), lost_index (acked, not in C-FIND),
 dangling (in C-FIND, no good file), orphan (good file, not in C-FIND), partial (unreadable/short file left), restart_s, dup tests."""
import argparse, ctypes, fcntl, hashlib, json, os, random, shutil, signal, socket, struct, subprocess, sys, threading, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "hostile", "drivers"))
from hz_dicom import *

def sh(c, check=True): return subprocess.run(c, shell=True, check=check, capture_output=True, text=True)

def pixels(seed, n):
    return random.Random(seed).randbytes(n)
def make(study, series, iuid, px, num):
    r = 256; c = len(px) // r
    return enc(base(iuid, study, series, over={(0x7fe0, 0x10): (b"OB", px), (0x28, 0x10): (b"US", us(r)), (0x28, 0x11): (b"US", us(c)), (0x20, 0x13): (b"IS", str(num).encode()), (0x10, 0x20): (b"LO", b"CRASH" + study[-6:].replace(b".", b"")), (0x20, 0x10): (b"SH", study[-6:])}))

class Sender(threading.Thread):
    def __init__(s, a, port, study, k, stop, limit=None):
        super().__init__(daemon=True); s.a, s.port, s.study, s.k, s.stop = a, port, study, k, stop
        s.series = study + b".%d" % k; s.acked = {}; s.refused = {}; s.sent = 0; s.limit = limit; s.err = None
    def run(s):
        try:
            c = Conn(s.a.host, s.port, 15)
            r = c.assoc(s.a.called.encode(), s.a.calling.encode(), [(1, SC, [EXPL])])
            if r != "AC": s.err = r; return
            n = 0; inrow = 0
            while not s.stop.is_set() and (s.limit is None or n < s.limit):
                n += 1; i = s.series + b".%d" % n; px = pixels(i, s.a.sizes[n % len(s.a.sizes)])
                s.sent = n
                c.send_msg(1, store_cmd(i, mid=n & 0x7fff), make(s.study, s.series, i, px, n))
                m = c.read_msg(15)
                if isinstance(m, str): s.err = m; return
                st = struct.unpack("<H", m[0].get((0, 0x900), b"\xff\xff"))[0]
                if st == 0 or st & 0xF000 == 0xB000: s.acked[i] = hashlib.sha256(px).hexdigest(); inrow = 0
                else:
                    s.refused[i] = st; inrow += 1
                    if inrow >= s.a.refuse: return
            c.release()
        except Exception as ex: s.err = type(ex).__name__

_cache = {}
def scan(root):
    """SOPInstanceUID -> (sha256 of pixel data, path); list of unreadable/partial"""
    got, bad = {}, []
    for r, _, fs in os.walk(root):
        for f in fs:
            p = os.path.join(r, f)
            try: st = os.stat(p); key = (st.st_ino, st.st_size, st.st_mtime_ns)
            except OSError: continue
            hit = _cache.get(p)
            if hit and hit[0] == key: got[hit[1]] = (hit[2], p); continue
            try: b = open(p, "rb").read()
            except OSError: bad.append(p); continue
            if b[128:132] != b"DICM":
                if f.endswith((".dcm", ".part", ".tmp")) or (len(f) == 36 and f.count("-") == 4): bad.append(p)
                continue
            k = b.find(b"\x08\0\x18\0UI")
            if k < 0: bad.append(p); continue
            n = struct.unpack("<H", b[k + 6:k + 8])[0]; iu = b[k + 8:k + 8 + n].rstrip(b"\0 ")
            k = b.rfind(b"\xe0\x7f\x10\0OB\0\0"); h = 12; q = None
            if k < 0: k = b.rfind(b"\xe0\x7f\x10\0OW\0\0")
            if k >= 0:
                n = struct.unpack("<I", b[k + 8:k + 12])[0]; q = b[k + 12:k + 12 + n]
                if len(q) < n: bad.append(p); got.setdefault(iu, ("PARTIAL", p)); continue
            if q is None: bad.append(p); got.setdefault(iu, ("PARTIAL", p)); continue
            got[iu] = (hashlib.sha256(q).hexdigest(), p); _cache[p] = (key, iu, got[iu][0])
    return got, bad

def cfind(a, port, study, series):
    c = Conn(a.host, port, 20)
    try:
        if c.assoc(a.called.encode(), a.calling.encode(), [(1, STUDYFIND, [IMPL])]) != "AC": return None
        idt = b"".join(ie(g, e, pad(v)) for (g, e), v in sorted({(8, 0x52): b"IMAGE", (8, 0x18): b"", (0x20, 0xD): study, (0x20, 0xE): series}.items()))
        c.send_msg(1, cmd({(0, 2): STUDYFIND, (0, 0x100): us(0x20), (0, 0x110): us(1), (0, 0x700): us(0), (0, 0x800): us(0)}), idt)
        out = set()
        while True:
            m = c.read_msg(20)
            if isinstance(m, str): return None
            st = struct.unpack("<H", m[0][(0, 0x900)])[0]
            if st in (0xFF00, 0xFF01):
                d = parse_cmd(m[1]); out.add(d.get((8, 0x18), b"").rstrip(b"\0 "))
            else:
                c.release(); return out if st == 0 else None
    finally: c.close()

def cget(a, port, study, series):
    """uid -> sha of pixels, by C-GET on one association"""
    c = Conn(a.host, port, 30); out = {}
    try:
        ui = userinfo(65536, extra=item(0x54, struct.pack(">H", len(SC)) + SC + b"\0\1"))
        if c.assoc(a.called.encode(), a.calling.encode(), None, items=item(0x10, APPCTX) + pc(1, STUDYGET, [IMPL]) + pc(3, SC, [EXPL]) + ui) != "AC": return None
        idt = b"".join(ie(g, e, pad(v)) for (g, e), v in sorted({(8, 0x52): b"SERIES", (0x20, 0xD): study, (0x20, 0xE): series}.items()))
        c.send_msg(1, cmd({(0, 2): STUDYGET, (0, 0x100): us(0x10), (0, 0x110): us(1), (0, 0x700): us(0), (0, 0x800): us(0)}), idt)
        while True:
            m = c.read_msg(30)
            if isinstance(m, str): return out or None
            cf = struct.unpack("<H", m[0][(0, 0x100)])[0]
            if cf == 1:
                i = m[0][(0, 0x1000)].rstrip(b"\0 "); b = m[1]
                k = max(b.rfind(b"\xe0\x7f\x10\0OB\0\0"), b.rfind(b"\xe0\x7f\x10\0OW\0\0")); n = struct.unpack("<I", b[k + 8:k + 12])[0]; out[i] = hashlib.sha256(b[k + 12:k + 12 + n]).hexdigest()
                c.send(pdata(m[2], 3, cmd({(0, 2): SC, (0, 0x100): us(0x8001), (0, 0x120): m[0][(0, 0x110)], (0, 0x800): us(0x101), (0, 0x900): us(0), (0, 0x1000): i})))
            elif struct.unpack("<H", m[0].get((0, 0x900), b"\0\0"))[0] != 0xFF00: return out
    finally: c.close()

FS_IOC_SHUTDOWN = 0x8004587D
def fs_shutdown(mnt):
    fd = os.open(mnt, os.O_RDONLY); fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", 2)); os.close(fd)

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--host", default="127.0.0.1"); ap.add_argument("--called", default="ANY"); ap.add_argument("--calling", default="HOSTILE")
    ap.add_argument("--start", required=True); ap.add_argument("--init", default=""); ap.add_argument("--root", required=True); ap.add_argument("--storage", default="{root}")
    ap.add_argument("--mode", default="kill9", choices=["kill9", "power", "enospc", "sigterm"]); ap.add_argument("--cycles", type=int, default=50); ap.add_argument("--senders", type=int, default=2)
    ap.add_argument("--sizes", default="65536", help="bytes of pixel data, taken in turn"); ap.add_argument("--min", type=float, default=0.2); ap.add_argument("--max", type=float, default=1.5); ap.add_argument("--index", default="find"); ap.add_argument("--get", action="store_true")
    ap.add_argument("--fs-mb", type=int, default=400); ap.add_argument("--refuse", type=int, default=5); ap.add_argument("--drain", type=float, default=15); ap.add_argument("--seed", type=int, default=1); ap.add_argument("--out", default="crash.json"); ap.add_argument("--label", default=""); ap.add_argument("--budget", type=float, default=500); ap.add_argument("--recover", default="", help="command to run before the restart (e.g. index rebuild)")
    a = ap.parse_args(); a.sizes = [int(x) for x in a.sizes.split(",")]; rnd = random.Random(a.seed); root = os.path.abspath(a.root)
    img = root + ".img"
    if os.path.ismount(root): sh(f"umount -l {root}", False)
    shutil.rmtree(root, True); os.makedirs(root)
    if a.mode == "power":
        sh(f"rm -f {img}; truncate -s {a.fs_mb}M {img}; mkfs.ext4 -q -F {img}; mount -o loop {img} {root}")
    if a.mode == "enospc": sh(f"mount -t tmpfs -o size={a.fs_mb}M none {root}")
    if a.init: sh(a.init.format(root=root), False)
    if a.mode == "power": os.sync()
    log = open(a.out + ".serverlog", "ab")
    def start():
        with socket.socket() as q: q.bind((a.host, 0)); port = q.getsockname()[1]  # a new one: some servers lack SO_REUSEADDR
        t0 = time.time()
        p = subprocess.Popen("exec " + a.start.format(port=port, root=root), shell=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        t1 = t0; waited = 0
        while waited < 60:
            now = time.time(); waited += min(now - t1, 4); t1 = now  # time in which this process was stopped itself does not count
            try: echo(a.host, port, a.called.encode(), a.calling.encode(), 3); return p, port, time.time() - t0
            except Exception:
                if p.poll() is not None: return None, port, time.time() - t0
                time.sleep(0.02)
        return None, port, 60
    T = dict(label=a.label, mode=a.mode, cycles=0, sent=0, acked=0, refused=0, lost_file=0, corrupt=0, lost_index=0, dangling=0, orphan=0, partial=0, get_missing=0, get_differs=0, find_failed=0, restart_failed=0, restart_max_s=0.0, restart_sum_s=0.0)
    t00 = time.time(); p, port, dt = start()
    if not p: print("cannot start"); sys.exit(2)
    all_acked = {}; all_sent = set(); partial_seen = set(); statuses = {}; cyc = []
    for cy in range(a.cycles):
        if time.time() - t00 > a.budget: break
        study = uid("1.2.826.0.1.3680043.10.999.5"); stop = threading.Event()
        ss = [Sender(a, port, study, k + 1, stop) for k in range(a.senders)]
        for s in ss: s.start()
        drained = None
        if a.mode == "enospc":
            for s in ss: s.join(120)
            stop.set()
        else:
            time.sleep(rnd.uniform(a.min, a.max))
            if a.mode == "power": fs_shutdown(root)
            if a.mode == "sigterm":
                os.killpg(p.pid, signal.SIGTERM); t0 = time.time(); time.sleep(0.3); stop.set()  # senders finish their image, then release
                while p.poll() is None and time.time() - t0 < a.drain: time.sleep(0.02)
                drained = p.poll() is not None; T.setdefault("exit_codes", []).append(p.poll()); T["drain_max_s"] = max(T.get("drain_max_s", 0), round(time.time() - t0, 2)); T["not_drained"] = T.get("not_drained", 0) + (not drained)
            try: os.killpg(p.pid, signal.SIGKILL)
            except ProcessLookupError: pass
            stop.set(); p.wait()
            for s in ss: s.join(20)
            if a.mode == "power":
                time.sleep(0.1)
                for _ in range(20):
                    if sh(f"umount {root}", False).returncode == 0: break
                    time.sleep(0.1)
                else: sh(f"umount -l {root}", False); time.sleep(.5)
                r = sh(f"mount -o loop {img} {root}", False); _cache.clear()
                if r.returncode: print("mount failed", r.stderr); break
            if a.recover: sh(a.recover.format(root=root), False)
            p, port, dt = start(); T["restart_max_s"] = round(max(T["restart_max_s"], dt), 2); T["restart_sum_s"] += dt
            if not p: T["restart_failed"] += 1; print("restart failed at cycle", cy); break
        got, bad = scan(a.storage.format(root=root))
        c0 = dict(T)
        T["cycles"] += 1
        for s in ss:
            T["sent"] += s.sent; T["acked"] += len(s.acked); T["refused"] += len(s.refused)
            for v in s.refused.values(): statuses["%04x" % v] = statuses.get("%04x" % v, 0) + 1
            all_acked.update(s.acked)
            idx = None
            if a.index == "find":
                try: idx = cfind(a, port, study, s.series)
                except Exception: idx = None
                if idx is None: T["find_failed"] += 1
            for i, hsh in s.acked.items():
                g = got.get(i)
                if g is None: T["lost_file"] += 1
                elif g[0] != hsh: T["corrupt"] += 1
                if idx is not None and i not in idx: T["lost_index"] += 1
            mine = {i for i in got if i.startswith(s.series + b".")}
            if idx is not None:
                T["dangling"] += sum(1 for i in idx if got.get(i, ("PARTIAL",))[0] == "PARTIAL"); T["orphan"] += sum(1 for i in mine if i not in idx)
            if a.get:
                try: r = cget(a, port, study, s.series)
                except Exception: r = None
                r = r or {}
                T["get_missing"] += sum(1 for i in s.acked if i not in r); T["get_differs"] += sum(1 for i, h_ in s.acked.items() if i in r and r[i] != h_)
        T["partial"] += len([b for b in bad if b not in partial_seen]); partial_seen.update(bad)
        cyc.append(dict(acked=T["acked"] - c0["acked"], lost=T["lost_file"] - c0["lost_file"] + T["corrupt"] - c0["corrupt"], lost_index=T["lost_index"] - c0["lost_index"]))
        if a.mode == "enospc": break
        if a.mode == "power" and cy % 8 == 7: # keep the small file system from filling: fresh image
            os.killpg(p.pid, signal.SIGKILL); p.wait(); sh(f"umount -l {root}; rm -f {img}; truncate -s {a.fs_mb}M {img}; mkfs.ext4 -q -F {img}; mount -o loop {img} {root}")
            if a.init: sh(a.init.format(root=root), False)
            os.sync(); p, port, dt = start(); all_acked.clear(); partial_seen.clear()
        elif a.mode != "power" and cy % 10 == 9 and shutil.disk_usage(root).used and sum(1 for _ in got) > 20000: pass
    if p:
        got, bad = scan(a.storage.format(root=root)); T["final_lost"] = sum(1 for i, h_ in all_acked.items() if got.get(i, ("",))[0] != h_)
        try: os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError: pass
        p.wait()
    T["restart_mean_s"] = round(T.pop("restart_sum_s") / max(1, T["cycles"]), 2); T["statuses"] = statuses; T["seconds"] = round(time.time() - t00, 1); T["cycles_with_loss"] = sum(1 for c in cyc if c["lost"] or c["lost_index"])
    json.dump(dict(summary=T, cycles=cyc), open(a.out, "w"), indent=1); print(json.dumps(T))
    if a.mode in ("power", "enospc"): sh(f"umount -l {root}", False)
    if os.path.exists(img): os.remove(img)
    if a.mode not in ("power", "enospc"): shutil.rmtree(root, True)
if __name__ == "__main__": main()
