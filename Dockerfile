# The command line on a CPU: docker build -t diffma . && docker run --rm -v "$PWD:/data" diffma convert ct.nii.gz mr.nii.gz
FROM python:3.12-slim
COPY . /source
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu \
 && pip install --no-cache-dir /source && rm -rf /source
WORKDIR /data
ENTRYPOINT ["diffma"]
