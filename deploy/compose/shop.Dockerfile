# The example service of deploy/compose/compose.yaml: Flask with its sessions in Redis, and nothing of Wayfarer in it.
FROM python:3.13-slim-trixie
WORKDIR /app
COPY tests/clients/requirements.txt ./
RUN pip install --no-cache-dir --no-deps -r requirements.txt
COPY tests/clients/flask_app.py ./
USER nobody
CMD ["python", "flask_app.py"]
