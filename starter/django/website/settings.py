"""Settings of the site. Secrets come from `app.secrets` of the topology, as variables."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
DEBUG = False

# app.internal is the host of health checks (`app.health_host`). Add your own names, and leave `*` out.
ALLOWED_HOSTS = ["app.internal", "*"]
USE_X_FORWARDED_PORT = True
# Behind `load_balancer.tls`, or a TLS proxy of `load_balancer.trusted_proxies`.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

INSTALLED_APPS = ["django.contrib.staticfiles"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "website.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
    }
]
WSGI_APPLICATION = "website.wsgi.application"

# nginx serves the directory that `app.static_directory` names.
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
