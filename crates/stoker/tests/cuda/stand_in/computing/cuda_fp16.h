// Half precision of the CUDA Math API.
#pragma once
#include "halves.h"
typedef stand_in::Small<stand_in::Half> __half;
typedef stand_in::Pair<stand_in::Half> __half2;
