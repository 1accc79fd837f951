// Shared by the parts of native_selftest.
#pragma once

namespace cudnn_lstm::cpu {

// Prints one line; if a check is not ok, the program exits with 1.
void check(bool ok, const char* subject, const char* what, double got, double bound);

// team_selftest.cpp
void check_teams();
void check_tuner();

}  // namespace cudnn_lstm::cpu
