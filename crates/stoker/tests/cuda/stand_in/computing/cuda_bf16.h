// Brain floating point of the CUDA Math API.
#pragma once
#include "halves.h"
typedef stand_in::Small<stand_in::Brain> __nv_bfloat16;
typedef stand_in::Pair<stand_in::Brain> __nv_bfloat162;
