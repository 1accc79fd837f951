#include "core/communicator.h"

#include <algorithm>
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

bool Communicator::all(bool mine) {
  const char so = mine ? 1 : 0;
  std::vector<char> everywhere(size());
  gather(&so, sizeof so, everywhere.data());
  return std::all_of(everywhere.begin(), everywhere.end(), [](char each) { return each != 0; });
}

}  // namespace cudnn_lstm
