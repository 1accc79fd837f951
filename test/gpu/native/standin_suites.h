// The parts of cuda_standin_test.
#pragma once

void check_numbers();
void check_order();
void check_strictness();
void check_failures();
void check_ranks();
void check_every_failure();  // minutes
