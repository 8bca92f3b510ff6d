"""What the machine is for: a web site in front of an application, a store of data behind it, and what keeps them going."""

from machine import NAME

APP = '''#!/usr/bin/python3
"""The shop's application: pages, a status page, and a page that looks up names with the shell, which is its fault."""
import http.server
import socket
import subprocess
import urllib.parse


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        fields = urllib.parse.parse_qs(query)
        try:
            if path == "/app/lookup":
                host = fields.get("host", ["localhost"])[0]
                answer = subprocess.run("getent hosts " + host, shell=True, capture_output=True, timeout=600).stdout
            elif path == "/app/status":
                answer = subprocess.run(["df", "-h", "/srv"], capture_output=True, timeout=20).stdout
            else:
                with socket.create_connection(("127.0.0.1", 5432), timeout=5) as store:
                    store.sendall(path.encode() + b"\\n")
                    answer = store.recv(4096)
        except (OSError, subprocess.TimeoutExpired):
            answer = b"later"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Page).serve_forever()
'''

STORE = '''#!/usr/bin/python3
"""The store of data: counts what is asked for, in a file."""
import socketserver
import sqlite3

secret = bytearray(b"the key of the store, in memory only")


class Ask(socketserver.StreamRequestHandler):
    def handle(self):
        path = self.rfile.readline(512).decode(errors="replace").strip()
        with sqlite3.connect("/home/data/store.db") as base:
            base.execute("create table if not exists seen (path text, times integer)")
            base.execute("insert into seen values (?, 1)", (path,))
            count = base.execute("select count(*) from seen where path = ?", (path,)).fetchone()[0]
        self.wfile.write(f"{path}: {count}\\n".encode())


socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", 5432), Ask).serve_forever()
'''

NGINX = """worker_processes 2;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events { worker_connections 256; }
http {
    access_log /var/log/nginx/access.log;
    server {
        listen 80;
        root /srv/www;
        location /app/ { proxy_pass http://127.0.0.1:8000; proxy_read_timeout 600s; }
    }
}
"""

SSHD = """Port 22
HostKey /etc/ssh/host_key
PasswordAuthentication no
UsePAM yes
PidFile none
Subsystem sftp internal-sftp
"""

# A helper that runs a program by its bare name while it is root: built on the machine by bob, used by alice.
HELPER = """#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void)
{
	if (setgid(0) || setuid(0))
		return perror("setuid"), 1;
	return system("tail -n 5 /var/log/nginx/access.log");
}
"""
HELPER_MAKE = """log-report: log-report.c
\tgcc -O2 -Wall -o log-report log-report.c

install: log-report
\tinstall -o root -m 4755 log-report /usr/local/bin/log-report
"""

BACKUP = """#!/bin/sh
set -e
tar -C /srv -czf /home/backup-job/srv.new app www
gzip -t /home/backup-job/srv.new
mv /home/backup-job/srv.new /home/backup-job/srv.tar.gz
"""

WATCH = """#!/bin/sh
while true; do
    ps -e -o comm= | sort | uniq -c | sort -rn | head -5 > /home/mon/programs
    free -m > /home/mon/memory
    cut -d ' ' -f 1 /proc/loadavg >> /home/mon/load
    ss -Htln | wc -l > /home/mon/listening
    sleep {pause}
done
"""

CRON = """SHELL=/bin/sh
PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
* * * * * backup-job /usr/local/bin/backup
* * * * * root logrotate /etc/logrotate.d/nginx
* * * * * root find /tmp -xdev -type f -mmin +60 -delete
"""

LOGROTATE = """/var/log/nginx/access.log {
    size 20k
    rotate 3
    create 0640 www-data adm
    postrotate
        kill -USR1 $(cat /run/nginx.pid)
    endscript
}
"""


def install(machine, users, dice):
    """Files and accounts, from before anybody watches."""
    for name, number in users.items():
        machine.prepare("useradd", "-m", "-u", number, "-s", "/bin/bash", name)
    machine.prepare("usermod", "-aG", "adm", "alice")
    machine.write("/etc/sudoers.d/bob", "bob ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    machine.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
    machine.write("/etc/hosts", f"127.0.0.1 localhost {NAME}\n" + "".join(
        f"{address} visitor-{number}.example\n" for number, address in enumerate(machine.visitors)))
    machine.write("/srv/app/app.py", APP, 0o755)
    machine.write("/srv/store/store.py", STORE, 0o755)
    machine.write("/etc/nginx/nginx.conf", NGINX)
    for page in ("index.html", "prices.html", "about.html"):
        machine.write(f"/srv/www/{page}", "<p>" + " ".join(dice.choices(["lamp", "chair", "table", "shelf"], k=400)) + "</p>\n")
    machine.write("/etc/ssh/sshd_config", SSHD)
    machine.write("/usr/local/bin/backup", BACKUP, 0o755)
    machine.write("/usr/local/bin/watch-machine", WATCH.format(pause=dice.randrange(8, 15)), 0o755)
    machine.write("/etc/cron.d/machine", CRON)
    machine.write("/etc/logrotate.d/nginx", LOGROTATE)
    machine.prepare("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/host_key")
    machine.prepare("mkdir", "-p", "/var/keys")
    for name in ("alice", "bob"):
        machine.prepare("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", f"/var/keys/{name}")
        machine.write(f"/home/{name}/.ssh/authorized_keys", machine.prepare("cat", f"/var/keys/{name}.pub"), 0o600, name)
        machine.prepare("chown", "-R", f"{name}:{name}", f"/home/{name}")


def start(machine):
    """The services, watched from their first instruction."""
    machine.spawn("/usr/bin/python3", "/srv/store/store.py", user="data")
    machine.spawn("/usr/bin/python3", "/srv/app/app.py", user="app")
    machine.spawn("/usr/sbin/nginx", "-g", "daemon off;")
    machine.spawn("/usr/sbin/sshd", "-D")
    machine.spawn("/usr/sbin/cron", "-f")
    machine.spawn("/bin/sh", "/usr/local/bin/watch-machine", user="mon")
