"""The servers of the laboratory: real programs, each on its own host and with its own small configuration."""

import shutil
import time
from pathlib import Path

from topology import OFFICE_DOMAIN, PEOPLE, sh

SITES = ["news.example", "shop.example", "weather.example", "wiki.example", "forum.example", "cdn.example"]
PAGES = 8
ASSETS = 12
WORDS = (
    "morning report valve pressure patient order river winter letter market engine garden number signal paper "
    "office train invoice kitchen window monitor review summer museum holiday printer shipment ticket battery"
).split()


class Services:
    """Starts every server and knows what the clients need: keys, certificates, names."""

    def __init__(self, network, seed, dice):
        self.network = network
        self.dice = dice
        self.work = network.work
        self.beacon_domain = f"{dice.choice(WORDS)}-{dice.choice(WORDS)}.example"
        self.tunnel_domain = f"{dice.choice('tnx')}.{dice.choice(WORDS)}{dice.randrange(10, 99)}.example"
        self.cdn_names = {site: f"{dice.choice('adsx')}{dice.getrandbits(32):08x}.cdn.example" for site in [*SITES, OFFICE_DOMAIN]}
        self.keys = self.work / "keys"
        self.keys.mkdir()
        self._keys()

    def start(self):
        self._names()
        self._time()
        self._web()
        self._ssh()
        self._mail()
        self._tunnel_end()
        self._wait()

    # Keys and certificates

    def _keys(self):
        for name in [*PEOPLE, "backup"]:
            key = self.keys / name
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name}@{OFFICE_DOMAIN}", "-f", str(key))
        authorized = self.keys / "authorized_keys"
        authorized.write_text("".join((self.keys / f"{name}.pub").read_text() for name in [*PEOPLE, "backup"]))
        (self.work / "tls").mkdir()
        names = [*SITES, "*.cdn.example", *[f"www.{site}" for site in SITES], f"www.{OFFICE_DOMAIN}", f"mail.{OFFICE_DOMAIN}",
                 "mx.partner.example", self.beacon_domain]
        for server in ("www", "sites", "mail", "mx", "c2"):
            cert, key = self.tls(server)
            sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
               "-subj", f"/CN={server}", "-addext", "subjectAltName=" + ",".join(f"DNS:{n}" for n in names), "-keyout", str(key), "-out", str(cert))
        authority = self.work / "tls" / "all.pem"
        authority.write_text("".join(self.tls(s)[0].read_text() for s in ("www", "sites", "mail", "mx", "c2")))

    def tls(self, server):
        return self.work / "tls" / f"{server}.crt", self.work / "tls" / f"{server}.key"

    @property
    def authority(self):
        return self.work / "tls" / "all.pem"

    # Names and time

    def _names(self):
        net = self.network
        dns = net["dns"]
        records = [f"time.example,{dns.address}", f"mx.partner.example,{net['mx'].address}",
                   f"{self.beacon_domain},{net['c2'].address}"]
        where = dict(zip(SITES, net["sites"].addresses))
        for site, address in where.items():
            records += [f"{site},{address}", f"www.{site},{address}"]
        records += [f"{name},{where['cdn.example']}" for name in self.cdn_names.values()]
        records += [f"www.{OFFICE_DOMAIN},{net['www'].address}", f"mail.{OFFICE_DOMAIN},{net['mail'].address}"]
        common = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--user=root",
                  "--pid-file=", "--log-facility=-"]
        # A local domain: unknown names below it are answered with NXDOMAIN, never forwarded.
        dns.spawn("dnsmasq", *common, f"--listen-address={dns.address}", "--bind-interfaces", "--local=/example/exampel/",
                  f"--local-ttl={self.dice.choice([60, 120, 300])}",
                  "--mx-host=partner.example,mx.partner.example,10",
                  f"--mx-host={OFFICE_DOMAIN},mail.{OFFICE_DOMAIN},10",
                  *[f"--host-record={r}" for r in records])
        office = [h for h in net.hosts.values() if h.address.startswith(net.subnet + ".")]
        net["gw"].spawn("dnsmasq", *common, f"--listen-address={net.gateway}", "--bind-interfaces",
                        f"--local=/{OFFICE_DOMAIN}/", f"--server={dns.address}",
                        f"--server=/{self.tunnel_domain}/{net['relay'].address}",
                        f"--local=/{net.subnet.split('.')[0]}.in-addr.arpa/",
                        *[f"--host-record={h.name}.{OFFICE_DOMAIN},{h.address}" for h in office])

    def _time(self):
        net = self.network
        # -x: no clock is touched; the programs only measure and answer.
        self._chrony(net["dns"], ["local stratum 2", "allow all"])
        for host in net.hosts.values():
            if host.address.startswith(net.subnet + ".") and host.name != "gw":
                low = self.dice.choice([4, 5, 6])
                self._chrony(host, [f"server time.example iburst minpoll {low} maxpoll {low + self.dice.randrange(2)}", "port 0"])

    def _chrony(self, host, lines):
        config = host.folder / "chrony.conf"
        config.write_text("\n".join([*lines, "cmdport 0", "bindcmdaddress /", "pidfile /run/chronyd.pid", ""]))
        host.spawn("chronyd", "-d", "-x", "-u", "root", "-f", config)

    # Web

    def _web(self):
        pages = {}
        for site in [*SITES, OFFICE_DOMAIN, "beacon"]:
            pages[site] = self._content(site)
        sites = self.network["sites"]
        servers = []
        for number, (site, address) in enumerate(zip(SITES, sites.addresses)):
            body = f"root {pages[site]};"
            # Half of the sites send plain visitors to TLS, as most of the web does.
            plain = "return 301 https://$host$request_uri;" if number % 2 == 0 else body
            servers.append(f"server {{ listen {address}:80; {plain} }}")
            servers.append(f"server {{ listen {address}:443 ssl; {body} }}")
        self._nginx(sites, servers, "sites")
        body = f"root {pages[OFFICE_DOMAIN]}; location = /health {{ return 200 'ok\\n'; }}"
        self._nginx(self.network["www"], [f"server {{ listen 80; {body} }}", f"server {{ listen 443 ssl; {body} }}"], "www")
        body = f"root {pages['beacon']}; default_type application/octet-stream;"
        self._nginx(self.network["c2"], [f"server {{ listen 80; {body} }}", f"server {{ listen 443 ssl; {body} }}"], "c2")

    def _nginx(self, host, servers, certificate):
        cert, key = self.tls(certificate)
        config = host.folder / "nginx.conf"
        temp = "\n".join(f"{kind}_temp_path {host.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config.write_text(f"""
daemon off; worker_processes 1; user root; pid /run/nginx.pid; error_log {host.folder}/error.log;
events {{ worker_connections 2000; }}
http {{
    include /etc/nginx/mime.types; default_type text/html; access_log off; keepalive_timeout 15s; server_tokens off;
    ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    {temp}
    {chr(10).join(servers)}
}}
""")
        host.spawn("nginx", "-c", config, "-e", host.folder / "error.log")

    def _content(self, site):
        """A small site: pages of words, assets of bytes that do not compress, sizes spread as on the web."""
        root = self.work / "www" / site
        root.mkdir(parents=True)
        for number in range(PAGES):
            length = min(24_000, int(self.dice.lognormvariate(7.8, 0.7)))
            text = " ".join(self.dice.choice(WORDS) for _ in range(length // 7))
            (root / f"page{number}.html").write_text(f"<!doctype html><title>{site}</title><p>{text}\n")
        for number in range(ASSETS):
            length = min(60_000, int(self.dice.lognormvariate(7.7, 1.1)))
            (root / f"asset{number}.{['png', 'css', 'js'][number % 3]}").write_bytes(self.dice.randbytes(length))
        (root / "manual.pdf").write_bytes(self.dice.randbytes(self.dice.randrange(60_000, 140_000)))
        (root / "check").write_bytes(self.dice.randbytes(self.dice.randrange(16, 120)))
        (root / "task").write_bytes(self.dice.randbytes(self.dice.randrange(600, 3000)))
        return root

    # Remote shells

    def _ssh(self):
        key = self.keys / "host_key"
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        config = self.work / "sshd_config"
        config.write_text(f"""
Port 22
ListenAddress 0.0.0.0
HostKey {key}
AuthorizedKeysFile {self.keys}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication yes
KbdInteractiveAuthentication no
PermitRootLogin no
MaxAuthTries 3
UseDNS no
PrintMotd no
PidFile none
Subsystem sftp internal-sftp
""")
        for name in ("www", "mail", "files", "relay"):
            self.network[name].spawn("/usr/sbin/sshd", "-D", "-e", "-f", config)

    # Mail

    def _mail(self):
        net = self.network
        self._exim(net["mail"], f"mail.{OFFICE_DOMAIN}", OFFICE_DOMAIN, f"{net.subnet}.0/24")
        self._exim(net["mx"], "mx.partner.example", "partner.example", net["mx"].address)

    def _exim(self, host, name, domain, inside):
        """A mail server for one domain, which sends for its own network and speaks STARTTLS."""
        cert, key = self.tls(host.name)
        for place in ("spool", "letters"):
            (host.folder / place).mkdir()
            shutil.chown(host.folder / place, "Debian-exim", "Debian-exim")
        shutil.chown(key, "Debian-exim")
        config = host.folder / "exim4.conf"
        config.write_text(f"""
primary_hostname = {name}
spool_directory = {host.folder}/spool
log_file_path = {host.folder}/spool/%s.log
local_interfaces = {host.address}
disable_ipv6 = true
keep_environment =
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {key}
acl_smtp_rcpt = recipient
begin acl
recipient:
  accept hosts = {inside}
  accept domains = {domain}
  deny message = relay not permitted
begin routers
here:
  driver = accept
  domains = {domain}
  transport = keep
elsewhere:
  driver = dnslookup
  transport = send
  # Addresses of this laboratory are all there is.
  ignore_target_hosts = 127.0.0.0/8
begin transports
keep:
  driver = appendfile
  directory = {host.folder}/letters
  maildir_format
  user = Debian-exim
send:
  driver = smtp
begin retry
* * F,10m,20s
""")
        # The configuration has a fixed path; this host sees its own.
        host.spawn("unshare", "--mount", "sh", "-ec",
                   f"mount -t tmpfs -o mode=755 tmpfs /etc/exim4; cp {config} /etc/exim4/; exec exim4 -bdf -q1m", log="exim.log")

    # The far end of the DNS tunnel

    def _tunnel_end(self):
        relay = self.network["relay"]
        relay.spawn("iodined", "-f", "-c", "-P", "seven-seas", "10.199.0.1/27", self.tunnel_domain)

    def _wait(self):
        """Until every server answers; a server that does not is named, with its log."""
        net = self.network
        client = net["ws-ana"]
        deadline = time.monotonic() + 30
        checks = [(name, net[name].address, port) for name, port in (
            ("www", 80), ("www", 443), ("www", 22), ("mail", 25), ("mail", 22), ("files", 22), ("sites", 443),
            ("mx", 25), ("c2", 80), ("c2", 443))]
        for name, address, port in checks:
            while client.run("bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}", timeout=3).returncode != 0:
                if time.monotonic() > deadline:
                    logs = "\n".join(p.read_text(errors="replace")[-800:] for p in Path(net[name].folder).glob("*.log"))
                    raise RuntimeError(f"{name} does not answer on port {port}:\n{logs}")
                time.sleep(0.2)
        while client.run("curl", "-s", "-o", "/dev/null", "http://wiki.example/page0.html", timeout=5).returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError("names of the outside do not resolve")
            time.sleep(0.2)
