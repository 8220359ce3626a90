# livseg as an app or a command, without notebooks: docker compose up, or
#     docker build -t livseg . && docker run --rm --user "$(id -u):$(id -g)" --env HOME=/tmp \
#         -v "$PWD:/scans" livseg predict /scans/scan.nii.gz --out /scans/results
# With an NVIDIA GPU (its container toolkit on the host): docker build --build-arg TENSORFLOW="tensorflow[and-cuda]" ...
FROM python:3.13-slim
ARG TENSORFLOW=tensorflow
WORKDIR /livseg
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY livseg_lib livseg_lib
RUN pip install --no-cache-dir -c requirements.lock ".[app,dicom,onnx]" "$TENSORFLOW" \
    && useradd --create-home livseg && mkdir /reports && chown livseg /reports
# In the container all addresses, as it has its own network; compose.yaml opens it to this machine alone.
ENV GRADIO_SERVER_NAME=0.0.0.0
USER livseg
WORKDIR /
EXPOSE 7860
ENTRYPOINT ["livseg"]
CMD ["app"]
