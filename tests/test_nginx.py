"""nginx accepts each configuration that we show, before and after it has a certificate."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trustme

ROOT = Path(__file__).parent.parent
# where Debian has it is not in everybody's PATH
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
SITE = (ROOT / "contrib/nginx.conf").read_text()

DASHBOARD = re.compile(r"^ +return 404;\n((?: +#[a-z].*\n)+)", re.MULTILINE)
OWN_CERTIFICATE = re.compile(r"^ +listen 80;\n.*\n.*\n.*\n((?: +#[a-z].*\n)+)", re.MULTILINE)


def uncommented(block: re.Pattern[str], site: str, before: str = "") -> str:
    """The site with a block of lines that its comment offers, in the place of others."""
    found = block.search(site)
    assert found
    return site.replace(found[0], before + found[1].replace("#", ""))


def with_certificate(site: str) -> str:
    """The site as certbot leaves it: port 443 with TLS, and port 80 leads there."""
    tls = "listen 443 ssl; ssl_certificate CERTIFICATE; ssl_certificate_key KEY;"
    redirect = "server { listen 80; server_name pbx.example.com; return 301 https://$host$uri; }"
    plain = re.sub(r"^ +listen .*\n", "", site, flags=re.MULTILINE)
    return plain.replace("server_name", f"{tls}\n    server_name", 1) + redirect


def readme(name: str) -> str:
    (block,) = re.findall(r"^```nginx\n(.*?)^```", (ROOT / name).read_text(), re.S | re.M)
    return str(block)


SITES = {
    "contrib/nginx.conf": SITE,
    "contrib/nginx.conf, dashboard": uncommented(DASHBOARD, SITE),
    "contrib/nginx.conf, own certificate": uncommented(
        OWN_CERTIFICATE, SITE, "    server_name pbx.example.com;\n"
    ),
    "README.md": readme("README.md"),
    "README.ru.md": readme("README.ru.md"),
}


def accepts(folder: Path, site: str) -> str:
    """Return what `nginx -t` says of a site."""
    certificate = trustme.CA().issue_cert("pbx.example.com")
    (folder / "key").write_bytes(certificate.private_key_pem.bytes())
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate")
    site = re.sub(r"(CERTIFICATE|/\S+\.pem)\b", f"{folder}/certificate", site)
    site = re.sub(r"(\bKEY|/\S+\.key)\b", f"{folder}/key", site)
    # nginx opens what it listens on, also for a test
    site = re.sub(
        r"listen (\[::\]:)?(\d+)",
        lambda found: f"listen unix:{folder}/{found[2]}{'v6' if found[1] else ''}",
        site,
    )
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {site} }}"
    )
    done = subprocess.run(
        [NGINX or "", "-t", "-q", "-p", str(folder), "-c", str(folder / "nginx.conf")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stderr


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
@pytest.mark.parametrize("name", SITES)
def test_nginx_accepts_each_site_before_and_after_certbot(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    # a socket's path may have 107 signs
    folder = tmp_path_factory.mktemp("n")
    site = SITES[name]
    assert accepts(folder, site) == ""
    if "own certificate" in name:
        assert "ssl_certificate" in re.sub("#.*", "", site)
        assert "listen 80" not in site
    else:
        assert accepts(folder, with_certificate(site)) == ""


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_what_nginx_refuses_is_noticed(tmp_path: Path) -> None:
    site = re.sub(r"listen .*;", "listen 443 ssl;", readme("README.md"))
    assert 'no "ssl_certificate" is defined' in accepts(tmp_path, site)


@pytest.mark.parametrize("name", SITES)
def test_planfix_reaches_what_it_needs_and_no_more(name: str) -> None:
    site = re.sub(r"#.*", "", SITES[name])
    locations = re.findall(r"location (.*?) *\{([^}]*)\}", site)
    inside = {path for path, what in locations if "proxy_pass" not in what}
    paths = [path for path, _ in locations if path != "= /metrics"]
    assert paths == ["/planfix", "/recordings/", "/"]
    # whoever may look at the dashboard need not see the figures of every company
    assert inside == ({"= /metrics"} if "dashboard" in name else {"/", *inside})
    assert "X-Forwarded-For $remote_addr" in site
