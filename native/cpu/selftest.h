// What the parts of native_selftest share.
#pragma once

namespace cudnn_lstm::cpu {

// Prints a line; a check that is not ok lets the program end with 1.
void check(bool ok, const char* subject, const char* what, double got, double bound);

// team_selftest.cpp
void check_teams();
void check_tuner();

}  // namespace cudnn_lstm::cpu
