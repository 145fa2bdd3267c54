# The quickstart's pipeline on a CPU, and MLflow's page on what it tracked.
#   docker build -t fkal . && docker run --rm -p 5000:5000 fkal
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /fkal
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu --constraint constraints.txt --editable .
COPY . .
# DVC wants a repository; the clone's history is not part of the image
RUN git init --quiet && dvc repro
EXPOSE 5000
CMD ["fkal", "ui", "--host", "0.0.0.0", "--no-browser"]
