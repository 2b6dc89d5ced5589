/* Caption image files with an exported model, without Python, through TensorFlow's C API.
 *
 *   TF=$(python -c 'import os, importlib.util as u; print(os.path.dirname(u.find_spec("tensorflow").origin))')
 *   gcc -I$TF/include export/caption.c $TF/libtensorflow_cc.so.2 $TF/libtensorflow_framework.so.2 \
 *       -Wl,-rpath,$TF -o caption
 *   ./caption OUT/1 serving_default_image_bytes StatefulPartitionedCall_1 2 photo.jpg ...
 *
 * `StatefulPartitionedCall_1 2` is the tensor of the output `captions`. `saved_model_cli show`
 * prints its name as `StatefulPartitionedCall_1:2`. For each image the program prints one line per
 * hypothesis: the image's index, a tab and the caption.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

static void check(TF_Status* status, const char* what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "caption: %s: %s\n", what, TF_Message(status));
  exit(1);
}

static char* read_file(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  if (!file) {
    fprintf(stderr, "caption: %s: cannot read the file\n", path);
    exit(2);
  }
  fseek(file, 0, SEEK_END);
  long length = ftell(file);
  rewind(file);
  *size = length > 0 ? (size_t)length : 0;
  char* bytes = malloc(*size + 1);
  if (length < 0 || !bytes || fread(bytes, 1, *size, file) != *size) {
    fprintf(stderr, "caption: %s: cannot read the file\n", path);
    exit(2);
  }
  fclose(file);
  return bytes;
}

static TF_Output output(TF_Graph* graph, const char* name, int index) {
  TF_Output tensor = {TF_GraphOperationByName(graph, name), index};
  if (!tensor.oper) {
    fprintf(stderr, "caption: the graph has no operation %s; see saved_model_cli show\n", name);
    exit(2);
  }
  return tensor;
}

int main(int count, char** arguments) {
  if (count < 6) {
    fprintf(stderr, "usage: caption MODEL INPUT OUTPUT NUMBER IMAGE...\n");
    return 2;
  }
  const char* tags[] = {"serve"};
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session = TF_LoadSessionFromSavedModel(options, NULL, arguments[1], tags, 1, graph,
                                                     NULL, status);
  check(status, arguments[1]);

  int64_t images = count - 5;
  TF_Tensor* batch = TF_AllocateTensor(TF_STRING, &images, 1, images * sizeof(TF_TString));
  TF_TString* files = TF_TensorData(batch);
  for (int64_t image = 0; image < images; ++image) {
    size_t size;
    char* bytes = read_file(arguments[5 + image], &size);
    TF_StringInit(&files[image]);
    TF_StringCopy(&files[image], bytes, size);
    free(bytes);
  }

  TF_Output input = output(graph, arguments[2], 0);
  TF_Output captions = output(graph, arguments[3], atoi(arguments[4]));
  TF_Tensor* result = NULL;
  TF_SessionRun(session, NULL, &input, &batch, 1, &captions, &result, 1, NULL, 0, NULL, status);
  check(status, "captioning");

  if (TF_TensorType(result) != TF_STRING || TF_NumDims(result) != 2) {
    fprintf(stderr, "caption: %s:%s is not the output `captions`; see saved_model_cli show\n",
            arguments[3], arguments[4]);
    return 2;
  }
  int64_t beams = TF_Dim(result, 1);
  const TF_TString* texts = TF_TensorData(result);
  for (int64_t index = 0; index < images * beams; ++index) {
    printf("%lld\t%.*s\n", (long long)(index / beams), (int)TF_StringGetSize(&texts[index]),
           TF_StringGetDataPointer(&texts[index]));
  }
  TF_DeleteTensor(batch);
  TF_DeleteTensor(result);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
