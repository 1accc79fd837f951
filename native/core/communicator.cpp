#include "core/communicator.h"

#include <vector>

namespace cudnn_lstm {

Agreement Communicator::agree(double nats, bool stopped) {
  struct Part {
    double nats;
    double stopped;
  };
  const Part mine{nats, stopped ? 1.0 : 0.0};
  std::vector<Part> all(size());
  gather(&mine, sizeof mine, all.data());
  Agreement agreed{0, false};
  for (const Part& part : all) {
    agreed.nats += part.nats;
    agreed.stopped = agreed.stopped || part.stopped != 0;
  }
  return agreed;
}

}  // namespace cudnn_lstm
